"""Durable work: close exams, run jobs, deliver, tidy. The only room that imports the workflow library."""
