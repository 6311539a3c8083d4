"""Self-validation filtering: labels judged by models that never saw the row; doubtful ones dropped, mended, shown."""
