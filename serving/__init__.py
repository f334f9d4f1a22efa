"""What answers: command line, BentoML service, HTTP protocols. The composition root."""
