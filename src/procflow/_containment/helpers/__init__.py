"""The programs that run beside the host: single files, standard library only."""
