"""What operators decide about agents: policies, cohorts, and what follows from both."""
