"""Fixtures of several tests: a site, the small corpus, and a run over it."""

import os
import pathlib

import pytest

from tests.web import bad_site, corpus


@pytest.fixture
def site():
  """A site on loopback that has no robots.txt."""
  with bad_site.serve() as running:
    running.answers['/robots.txt'] = (404, {}, b'')
    yield running


@pytest.fixture
def data():
  """The folder of the shared data sets."""
  folder = os.environ.get('LLM_JAX_DATA')
  if not folder:
    pytest.skip('LLM_JAX_DATA names no folder of shared data')
  return pathlib.Path(folder)


@pytest.fixture(scope='module')
def warcs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('warcs')
  corpus.write(folder)
  return folder


@pytest.fixture(scope='module')
def finished(warcs, tmp_path_factory):
  """A run that nothing disturbed."""
  workdir = tmp_path_factory.mktemp('clean')
  corpus.run(*corpus.command(warcs, workdir))
  return workdir
