"""What is kept: events in memory, and the version number across restarts."""
