"""A policy that follows a learned reward too far, the warnings, and the KL penalties that prevent it."""
