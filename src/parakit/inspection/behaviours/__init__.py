"""The five behaviours of attention on one's own model: how often each is right, and which heads it rests on."""
