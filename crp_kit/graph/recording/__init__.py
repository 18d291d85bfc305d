"""What one forward needs to become a recorded graph: function mode, live values, aliasing, hidden dependences."""
