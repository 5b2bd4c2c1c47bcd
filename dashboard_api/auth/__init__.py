"""Authentication and permissions: tokens, roles and browser sessions."""
