"""The router's place in api-paste.ini: in every pipeline of the APIs, and away again to the byte."""

from __future__ import annotations

import pytest

from heat_upgrade.router.paste import PasteError, Place, with_router, without_router

PLACE = Place(
    "26.0.2", "25.0.2", {"orchestration": "http://127.0.0.1:1", "cfn": "http://127.0.0.1:2"}, "/s%/state.json"
)
# What releases from 25 on have, cut to what matters; comments and flavours as there.
URLMAP = """\
# heat-api composite
[composite:heat-api]
use = egg:Paste#urlmap
/: api
/healthcheck: healthcheck

[composite:heat-api-cfn]
use = egg:Paste#urlmap
/: api-cfn
/healthcheck: healthcheck

[composite:api]
paste.composite_factory = heat.api:pipeline_factory
default = cors request_id authtoken context apiv1app
noauth = cors noauth context apiv1app

[composite:api-cfn]
paste.composite_factory = heat.api:pipeline_factory
default = cors ec2authtoken context apicfnv1app

[app:apiv1app]
paste.app_factory = heat.common.wsgi:app_factory

[app:apicfnv1app]
paste.app_factory = heat.common.wsgi:app_factory

[app:healthcheck]
paste.app_factory = oslo_middleware:Healthcheck.app_factory
"""
# What releases up to 24 have: composites named after the flavour.
BY_FLAVOUR = URLMAP.replace("use = egg:Paste#urlmap", "paste.composite_factory = heat.api:root_app_factory").replace(
    "[composite:api]",
    "[composite:heat-api-noauth]\npaste.composite_factory = heat.api:root_app_factory\n/: api\n\n[composite:api]",
)
# What much older files have, and what people write.
PIPELINES = """\
[pipeline:heat-api]
pipeline = cors
    request_id
    # a comment
    authtoken  context
    apiv1app
[pipeline:heat-api-noauth]
pipeline: cors noauth apiv1app
[pipeline:heat-api-cfn]
pipeline =
  cors
  apicfnv1app
"""
ROUTED = "heat_upgrade_router_orchestration"


@pytest.mark.parametrize("text", [URLMAP, BY_FLAVOUR, PIPELINES, URLMAP.rstrip("\n"), URLMAP.replace("\n", "\r\n")])
def test_it_comes_and_goes_without_a_trace(text: str) -> None:
    changed = with_router(text, PLACE)
    assert changed != text
    assert without_router(changed) == text
    assert with_router(changed, PLACE) == changed
    assert without_router(text) == text


@pytest.mark.parametrize("text", [URLMAP, BY_FLAVOUR])
def test_it_is_first_in_every_flavour_of_each_api(text: str) -> None:
    lines = with_router(text, PLACE).splitlines()
    assert f"default = {ROUTED} cors request_id authtoken context heat_upgrade_identity apiv1app" in lines
    assert f"noauth = {ROUTED} cors noauth context heat_upgrade_identity apiv1app" in lines
    assert "default = heat_upgrade_router_cfn cors ec2authtoken context heat_upgrade_identity apicfnv1app" in lines
    assert sum("heat_upgrade_identity api" in line for line in lines) == 3


def test_it_finds_its_place_in_a_pipeline_of_several_lines() -> None:
    text = with_router(PIPELINES, PLACE)
    assert f"pipeline = {ROUTED} cors\n    request_id\n    # a comment\n" in text
    assert "    authtoken  context\n    heat_upgrade_identity apiv1app\n" in text
    assert f"pipeline: {ROUTED} cors noauth heat_upgrade_identity apiv1app\n" in text
    assert "pipeline =heat_upgrade_router_cfn \n  cors\n  heat_upgrade_identity apicfnv1app\n" in text


def test_each_router_is_told_its_own_api_beside() -> None:
    text = with_router(URLMAP, PLACE)
    section = text.partition("[filter:heat_upgrade_router_cfn]\n")[2].splitlines()
    assert section == [
        "paste.filter_factory = heat_upgrade_router:filter_factory",
        "api = cfn",
        "side = 26.0.2",
        "other = 25.0.2",
        "beside = http://127.0.0.1:2",
        "state = /s%%/state.json",
    ]


def test_a_host_with_one_api_has_one_router() -> None:
    text = with_router(URLMAP, PLACE._replace(beside={"orchestration": "http://127.0.0.1:1"}))
    assert "heat_upgrade_router_cfn" not in text
    assert text.count(ROUTED) == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no .composite:heat-api. or .pipeline:heat-api. leads to a pipeline"),
        ("[composite:heat-api", "can't be read"),
        (URLMAP.replace("/: api\n", "/: config:other.ini\n"), "isn't in this file"),
        (URLMAP.replace("heat.api:pipeline_factory", "mine:factory"), "made by 'mine:factory'"),
        (URLMAP.replace("[composite:heat-api-cfn]", "[composite:other]"), "no .composite:heat-api-cfn."),
        (URLMAP.replace("/: api-cfn", "/: api"), "serves heat-api and heat-api-cfn"),
        (
            URLMAP.replace("default = cors request", "default = heat_upgrade_router_x cors request"),
            "not by this upgrade",
        ),
    ],
)
def test_a_file_where_it_has_no_place_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(PasteError, match=reason):
        with_router(text, PLACE)
