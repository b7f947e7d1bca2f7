"""The modules beside the tests can be imported; the number of inputs is printed at the end."""

import pytest
from verdict import MORE, counted


@pytest.fixture(autouse=True, scope="session")
def tell(request: pytest.FixtureRequest) -> object:
    yield
    if MORE:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(
                f"\n{counted['results']} results and {counted['sentences']} sentences", flush=True
            )
