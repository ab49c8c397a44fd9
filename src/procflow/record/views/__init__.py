"""What people and other tools see of a run: a timeline, a chart in text, a trace, a summary.  All are made of a view."""
