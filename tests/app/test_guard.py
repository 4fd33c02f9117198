"""Who is kept out: other sites, other names, and people with other pages."""

import pytest


def test_nobody_gets_anothers_picture(client, open_page, picture_bytes):
    one, two = open_page(client), open_page(client)
    picture = one.upload(picture_bytes())
    for name in ("decoded.png", "original.png", "codes.viq"):
        path = f"/api/pictures/{picture['picture']}/{name}"
        assert one.get(path).status_code == 200
        assert two.get(path).status_code == 404
        assert client.get(path).status_code == 401
    for what in ("ask", "edit", "compare", "recode"):
        path = f"/api/pictures/{picture['picture']}/{what}"
        assert two.post(path, json={"question": "What?"}).status_code == 404
        response = client.post(path)
        assert response.status_code == 401
        assert response.json()["error"].startswith("This page was not used for long")


def test_nothing_is_served_without_a_session(client):
    for path in ("/api/pictures", "/api/samples/cat.png"):
        for headers in ({}, {"X-ViQ-Session": "guessed"}):
            assert client.post(path, headers=headers).status_code == 401


def test_a_closed_page_is_forgotten(page, picture_bytes):
    picture = page.upload(picture_bytes())
    app = page.client.app.state.viq
    assert (len(app.sessions), app.sessions.nbytes > 0) == (1, True)
    assert page.client.delete("/api/session", headers=page.headers).status_code == 204
    assert (len(app.sessions), app.sessions.nbytes) == (0, 0)
    assert page.get(f"/api/pictures/{picture['picture']}/decoded.png").status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost:7860", 200),
        ("[::1]:7860", 200),
        ("10.1.2.3", 200),
        ("evil.example", 403),
        ("evil.example:7860", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_names_that_are_not_the_servers_are_refused(client, host, status):
    response = client.get("/", headers={"Host": host})
    assert response.status_code == status
    if status == 403:
        assert response.json()["error"].startswith("This server does not go by the name")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "same-origin"}, 201),
        ({"Origin": "https://127.0.0.1:7860"}, 201),  # behind a proxy
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_other_sites_cannot_ask_for_anything(client, headers, status):
    response = client.post("/api/session", headers=headers)
    assert response.status_code == status
    if status == 403:
        assert response.json() == {"error": "This request came from another site."}


def test_names_are_allowed_one_by_one(checkpoints):
    from starlette.testclient import TestClient

    from viq.app.server import create_app

    client = TestClient(create_app(checkpoints, hosts=["Demo.example.org"]))
    for host, status in (("demo.example.org", 200), ("example.org", 403)):
        assert client.get("/", headers={"Host": host}).status_code == status
