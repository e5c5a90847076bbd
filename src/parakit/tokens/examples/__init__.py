"""Examples of a task (classification, tagging, translation, ...) as token ids: encoding, shards on disk, batches."""
