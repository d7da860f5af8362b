"""The main job: stages that read and write one run folder, their plan, and their execution."""
