"""Quality: how good models are that Parakit makes, against targets, teachers, baselines and chance."""
