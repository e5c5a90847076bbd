"""E-mail: messages, mailboxes, and what of a message is quoted."""
