"""The processes that do the work which the service stored: one RQ worker for each queue."""
