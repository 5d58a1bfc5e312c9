"""What producer and worker agree on: parameters, jobs, the ledger, the store and the queue."""
