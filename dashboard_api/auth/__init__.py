"""Who calls and what they may do: tokens, roles and browser sessions."""
