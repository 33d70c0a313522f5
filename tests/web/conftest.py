"""Fixtures of several tests: the small corpus, and a run over it."""

import subprocess

import pytest

from tests.web import corpus


@pytest.fixture(scope='module')
def warcs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('warcs')
  corpus.write(folder)
  return folder


@pytest.fixture(scope='module')
def finished(warcs, tmp_path_factory):
  """A run that nothing disturbed."""
  workdir = tmp_path_factory.mktemp('clean')
  subprocess.run(corpus.command(warcs, workdir), cwd=corpus.ROOT, check=True)
  return workdir
