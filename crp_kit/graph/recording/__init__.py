"""Recording of one forward as a graph: function mode, live values, aliasing, hidden dependences."""
