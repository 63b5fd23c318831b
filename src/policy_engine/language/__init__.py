"""The policy language: from the text of a policy file to checked policies."""
