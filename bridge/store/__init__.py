"""Redis or Valkey as the store of record, and RQ as the way to wake a worker."""
