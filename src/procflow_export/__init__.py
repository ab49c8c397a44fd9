"""Move database tables to Parquet and CSV files."""
