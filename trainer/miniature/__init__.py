"""Train in miniature: whole runs on two CPU cores."""
