"""Where the lines of a record go: files, pipes, functions, nowhere."""
