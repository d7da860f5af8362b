"""Is influence true? Documents are left out, the model is trained again, and the queries are measured again."""

from arithcirc.influence.truth.datamodels import datamodel_groups, datamodel_scores, datamodel_table, half_subsets
from arithcirc.influence.truth.fresh import fresh_study
from arithcirc.influence.truth.judge import choose_targets, judge_datamodels, judge_removals
from arithcirc.influence.truth.removal import Removal, plan_removals, removal_groups, removal_table
from arithcirc.influence.truth.retraining import Left, Retraining
from arithcirc.influence.truth.trial import Trial, check_recipe, open_trial

__all__ = [
    "Left",
    "Removal",
    "Retraining",
    "Trial",
    "check_recipe",
    "choose_targets",
    "datamodel_groups",
    "datamodel_scores",
    "datamodel_table",
    "fresh_study",
    "half_subsets",
    "judge_datamodels",
    "judge_removals",
    "open_trial",
    "plan_removals",
    "removal_groups",
    "removal_table",
]
