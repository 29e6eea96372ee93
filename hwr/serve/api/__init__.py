"""The web application: routes, what requests say, and the answers to them."""
