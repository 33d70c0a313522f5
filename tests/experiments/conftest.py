"""What the tests of training stages share."""

import pytest

from tests.evals import tiny_checkpoint


@pytest.fixture(name='base', scope='session')
def _base(tmp_path_factory):
  return str(tiny_checkpoint.write(tmp_path_factory.mktemp('base'), False))


@pytest.fixture(name='assistant', scope='session')
def _assistant(tmp_path_factory):
  return str(tiny_checkpoint.write(tmp_path_factory.mktemp('chat'), True))
