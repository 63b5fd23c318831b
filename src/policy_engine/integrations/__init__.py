"""The engine inside the frameworks of federated learning."""
