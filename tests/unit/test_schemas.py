import pyarrow as pa
import pytest

from htcl import schemas
from htcl.errors import HTCLError
from htcl.schemas import CATALOG, embeddings_schema, require_columns

TABLES = [schema for schema in vars(schemas).values() if isinstance(schema, pa.Schema)]


@pytest.mark.parametrize("schema", [*TABLES, embeddings_schema(4)])
def test_every_field_says_what_it_holds(schema):
    assert all(field.metadata and field.metadata[b"doc"] for field in schema)


def test_optional_columns_may_be_absent_and_names_are_mapped():
    require_columns({"title": "name"}, ["track_id", "name", "audio_path"], CATALOG, "catalog")


@pytest.mark.parametrize(
    ("columns", "present", "words"),
    [
        ({}, ["track_id", "audio_path"], "column 'title' is missing .* name the right one with catalog.columns.title"),
        ({"title": "name"}, ["track_id", "title", "audio_path"], "column 'name' is missing"),
        ({"genre": "style"}, ["track_id", "title", "audio_path"], "column 'style' is missing"),
        ({"titel": "name"}, ["track_id"], "the contract has no column 'titel'"),
    ],
)
def test_a_column_that_is_missing_names_the_setting(columns, present, words):
    with pytest.raises(HTCLError, match=words):
        require_columns(columns, present, CATALOG, "catalog")


def test_an_embedding_has_the_width_of_the_model():
    assert embeddings_schema(100).field("embedding").type.list_size == 100
