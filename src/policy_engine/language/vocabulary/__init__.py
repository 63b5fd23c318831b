"""The words of the policy language: actions, types and match keys."""
