"""Real data that needs no download, one file each, for `demo:NAME` as model and data set.

A demo's file holds:

* `TASK` and `COLUMNS`: the task, and its data's column for each role;
* `splits() -> dict[str, Dataset]`: `train` and `test`;
* `untrained(train, seed) -> (module, processor)`: the model before its training;
* `TRAINING`: fields of a training step that make a good model of it in less than a minute on two cores.
"""
