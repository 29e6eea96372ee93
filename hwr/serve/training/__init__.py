"""Models trained on a project's corrections: the lines held back, the process that trains, the judgement."""
