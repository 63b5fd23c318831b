"""Who asks, and what that allows: permissions, roles, principals, and the credentials that prove them. Pure."""
