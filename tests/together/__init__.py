"""People and programs at work on one store at the same time, in processes of their own that may be killed."""
