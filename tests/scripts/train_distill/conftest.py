from pathlib import Path

import pytest
from tiny_training import RUN, TINY, shards, train


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    return shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="session")
def teacher(tmp_path_factory, data) -> Path:
    """A teacher trained from nothing, by the command."""
    output = tmp_path_factory.mktemp("teacher")
    train("--preset", "tiny-teacher", "--data", data, "--output", output, *RUN, *TINY, "--sampling-steps", 2)
    return output / "teacher"


@pytest.fixture(scope="session")
def first_stage(tmp_path_factory, data, teacher) -> Path:
    output = tmp_path_factory.mktemp("stage1")
    train("--preset", "tiny-stage1", "--data", data, "--output", output, "--teacher", teacher, *RUN)
    return output


@pytest.fixture(scope="session")
def second_stage(tmp_path_factory, data, teacher, first_stage) -> Path:
    output = tmp_path_factory.mktemp("stage2")
    inputs = ("--init-student", first_stage / "student")
    train("--preset", "tiny-stage2", "--data", data, "--output", output, "--teacher", teacher, *inputs, *RUN)
    return output
