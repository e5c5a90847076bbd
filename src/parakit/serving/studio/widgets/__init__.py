"""Elements of the studio that NiceGUI does not have; what they show of users and models is text, never markup."""
