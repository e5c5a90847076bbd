"""From a request in any form to tokens: the call, the service that starts it, and the running generation."""
