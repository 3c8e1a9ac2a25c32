"""Pictures for people, of arrays: never of a network."""
