"""What people already run keeps working: boto3, the requests of CompreFace's SDK, DeepStack's clients; against a real platform."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.builders.running import TOKEN, running

PEOPLE = files("cli") / "assets" / "people"
OBAMA, OBAMA_2012 = (PEOPLE.joinpath(f"{name}.jpg").read_bytes() for name in ("enrol/barack-obama-2009", "figures/barack-obama-2012"))
BIDEN, BIDEN_LATER = (PEOPLE.joinpath(f"{name}.jpg").read_bytes() for name in ("enrol/joe-biden-2010", "figures/joe-biden-2010"))
STRANGER = PEOPLE.joinpath("figures/grace-hopper.jpg").read_bytes()


@dataclass(frozen=True)
class Server:
    url: str

    def call(self, method: str, path: str, *, status: int = 200, headers: dict[str, str] | None = None, **more: Any) -> Any:
        response = requests.request(
            method, self.url + path, headers={"x-api-key": TOKEN} if headers is None else headers, timeout=30, **more
        )
        assert response.status_code == status, response.text
        return response.json()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("compat") / "data") as url:
        yield Server(url)


@pytest.fixture(scope="module")
def rekognition(server: Server) -> Any:
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30)
    return boto3.client(
        "rekognition", region_name="us-east-1", endpoint_url=server.url, aws_access_key_id=TOKEN, aws_secret_access_key="any", config=config
    )


def test_boto3_enrols_and_searches(rekognition: Any) -> None:
    assert rekognition.create_collection(CollectionId="staff")["StatusCode"] == 200
    with pytest.raises(ClientError, match="ResourceAlreadyExistsException"):
        rekognition.create_collection(CollectionId="staff")
    assert "staff" in rekognition.list_collections()["CollectionIds"]
    indexed = rekognition.index_faces(CollectionId="staff", Image={"Bytes": OBAMA}, ExternalImageId="obama", MaxFaces=1)
    rekognition.index_faces(CollectionId="staff", Image={"Bytes": BIDEN}, ExternalImageId="biden")
    (record,) = indexed["FaceRecords"]
    assert record["Face"]["ExternalImageId"] == "obama"
    assert 0 < record["Face"]["BoundingBox"]["Width"] < 1
    assert {point["Type"] for point in record["FaceDetail"]["Landmarks"]} == {"eyeLeft", "eyeRight", "nose", "mouthLeft", "mouthRight"}
    found = rekognition.search_faces_by_image(CollectionId="staff", Image={"Bytes": OBAMA_2012}, FaceMatchThreshold=80, MaxFaces=5)
    assert [match["Face"]["ExternalImageId"] for match in found["FaceMatches"]] == ["obama"]
    assert found["FaceMatches"][0]["Similarity"] > 90
    assert rekognition.search_faces_by_image(CollectionId="staff", Image={"Bytes": STRANGER}, FaceMatchThreshold=90)["FaceMatches"] == []
    own = record["Face"]["FaceId"]
    assert rekognition.search_faces(CollectionId="staff", FaceId=own, FaceMatchThreshold=99)["FaceMatches"] == []
    assert rekognition.describe_collection(CollectionId="staff")["FaceCount"] == 2
    listed = [
        face for page in rekognition.get_paginator("list_faces").paginate(CollectionId="staff", MaxResults=1) for face in page["Faces"]
    ]
    assert sorted(face["ExternalImageId"] for face in listed) == ["biden", "obama"]
    assert rekognition.delete_faces(CollectionId="staff", FaceIds=[own])["DeletedFaces"] == [own]
    assert rekognition.search_faces_by_image(CollectionId="staff", Image={"Bytes": OBAMA_2012})["FaceMatches"] == []
    assert rekognition.delete_collection(CollectionId="staff")["StatusCode"] == 200
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        rekognition.describe_collection(CollectionId="staff")
    with pytest.raises(ClientError, match=r"InvalidParameterException.*is the one that cameras search"):
        rekognition.delete_collection(CollectionId="default")


def test_boto3_compares_and_detects(rekognition: Any) -> None:
    same = rekognition.compare_faces(SourceImage={"Bytes": OBAMA}, TargetImage={"Bytes": OBAMA_2012}, SimilarityThreshold=80)
    assert len(same["FaceMatches"]) == 1
    other = rekognition.compare_faces(SourceImage={"Bytes": OBAMA}, TargetImage={"Bytes": BIDEN}, SimilarityThreshold=90)
    assert (other["FaceMatches"], len(other["UnmatchedFaces"])) == ([], 1)
    (face,) = rekognition.detect_faces(Image={"Bytes": STRANGER})["FaceDetails"]
    assert face["Confidence"] > 50


def test_boto3_is_told_what_is_wrong(rekognition: Any, server: Server) -> None:
    with pytest.raises(ClientError, match=r"InvalidImageFormatException"):
        rekognition.detect_faces(Image={"Bytes": b"no photo"})
    with pytest.raises(ClientError, match=r"InvalidParameterException.*S3 objects are not read here"):
        rekognition.detect_faces(Image={"S3Object": {"Bucket": "photos", "Name": "n"}})
    wrong = {"aws_access_key_id": "wrong-key-0123456789", "aws_secret_access_key": "any"}
    stranger = boto3.client("rekognition", region_name="us-east-1", endpoint_url=server.url, **wrong)
    with pytest.raises(ClientError, match="UnrecognizedClientException"):
        stranger.list_collections()


def test_the_requests_of_comprefaces_sdk(server: Server) -> None:
    faces, subjects = "/api/v1/recognition/faces", "/api/v1/recognition/subjects"
    assert server.call("POST", subjects, status=201, data=json.dumps({"subject": "Barack"}), headers=_json()) == {"subject": "Barack"}
    added = server.call("POST", faces + "?subject=Barack", status=201, files={"file": ("image.jpg", OBAMA)})
    assert added["subject"] == "Barack"
    server.call("POST", faces + "?subject=Joe", status=201, files={"file": ("image.jpg", BIDEN)})
    recognize = "/api/v1/recognition/recognize?&limit=0&prediction_count=2&det_prob_threshold=0.1&face_plugins=landmarks&status=true"
    (face,) = server.call("POST", recognize, files={"file": ("image.jpg", OBAMA_2012)})["result"]
    assert [one["subject"] for one in face["subjects"]] == ["Barack", "Joe"]
    assert face["subjects"][0]["similarity"] > 0.9 > face["subjects"][1]["similarity"]
    assert len(face["landmarks"]) == 5
    (unknown,) = server.call("POST", recognize, files={"file": ("image.jpg", STRANGER)})["result"]
    assert unknown["subjects"][0]["similarity"] < 0.9
    listed = server.call("GET", faces + "?page=0&size=20&subject=Joe")
    assert (listed["total_elements"], listed["faces"][0]["subject"]) == (1, "Joe")
    verified = server.call("POST", f"{faces}/{added['image_id']}/verify?", files={"file": ("image.jpg", OBAMA_2012)})["result"]
    assert verified[0]["face_matches"][0]["similarity"] > 0.9
    pair = {"source_image": ("a.jpg", OBAMA), "target_image": ("b.jpg", BIDEN_LATER)}
    assert server.call("POST", "/api/v1/verification/verify", files=pair)["result"][0]["face_matches"][0]["similarity"] < 0.9
    assert server.call("PUT", f"{subjects}/Barack", data=json.dumps({"subject": "Obama"}), headers=_json()) == {"updated": True}
    assert server.call("GET", subjects, headers=_json()) == {"subjects": ["Joe", "Obama"]}
    assert server.call("DELETE", f"{faces}/{added['image_id']}")["subject"] == "Obama"
    assert server.call("DELETE", faces + "?subject=Joe") == {"deleted": 1}
    assert server.call("DELETE", subjects, headers=_json()) == {"deleted": 2}


def test_renaming_to_a_name_that_is_taken_merges(server: Server) -> None:
    subjects = "/api/v1/recognition/subjects"
    for name in ("Ada", "Ada Lovelace"):
        server.call("POST", subjects, status=201, data=json.dumps({"subject": name}), headers=_json())
    (kept,) = server.call("GET", "/v1/subjects?name_prefix=Ada%20Lovelace")["subjects"]
    assert server.call("PUT", f"{subjects}/Ada", data=json.dumps({"subject": "Ada Lovelace"}), headers=_json()) == {"updated": True}
    assert server.call("GET", subjects) == {"subjects": ["Ada Lovelace"]}
    assert [one["merged"] for one in server.call("GET", f"/v1/subjects/{kept['subject_id']}/merges")["merges"]] == ["Ada"]
    assert server.call("DELETE", subjects) == {"deleted": 1}


def test_compreface_errors_have_their_numbers(server: Server) -> None:
    recognize = "/api/v1/recognition/recognize"
    assert server.call("POST", recognize, status=401, headers={}, files={"file": ("a.jpg", OBAMA)})["code"] == 20
    assert server.call("DELETE", "/api/v1/recognition/subjects/Nobody", status=404)["code"] == 42
    assert server.call("POST", recognize, status=400, files={"file": ("a.jpg", b"no photo")})["code"] == 30


def test_deepstack_names_the_known_and_no_stranger(server: Server) -> None:
    vision = "/v1/vision/face"
    assert server.call("POST", vision + "/register", files={"image": ("a.jpg", BIDEN)}, data={"userid": "joe"})["success"]
    (known,) = server.call("POST", vision + "/recognize", files={"image": ("a.jpg", BIDEN_LATER)})["predictions"]
    assert (known["userid"], known["confidence"] > 0.8) == ("joe", True)
    (unknown,) = server.call("POST", vision + "/recognize", files={"image": ("a.jpg", STRANGER)})["predictions"]
    assert unknown["userid"] == "unknown"
    assert server.call("POST", vision + "/list") == {"success": True, "faces": ["joe"]}
    assert server.call("POST", vision + "/delete", files={"userid": (None, "joe")})["success"]


def test_deepstacks_clients_send_the_key_in_the_form(server: Server) -> None:
    vision, mine = "/v1/vision/face", {"api_key": TOKEN}
    photo = {"image": ("a.jpg", BIDEN)}
    assert server.call("POST", vision + "/register", headers={}, files=photo, data={"userid": "joe", **mine})["success"]
    key_last = {"image": ("a.jpg", BIDEN_LATER), "api_key": (None, TOKEN)}
    (known,) = server.call("POST", vision + "/recognize", headers={}, files=key_last)["predictions"]
    assert known["userid"] == "joe"
    assert server.call("POST", vision + "/list", headers={}, data=mine)["faces"] == ["joe"]
    for given in ({}, {"api_key": ""}, {"api_key": "another-token-0123456789"}):
        refused = server.call("POST", vision + "/recognize", headers={}, status=401, files=photo, data=given)
        assert (refused["success"], refused["code"]) == (False, "unauthorized")
        assert server.call("POST", vision + "/delete", headers={}, status=401, data={"userid": "joe", **given})["success"] is False
    assert server.call("POST", vision + "/list?api_key=" + TOKEN, headers={}, status=401)["success"] is False
    assert server.call("POST", "/api/v1/recognition/recognize", headers={}, status=401, files={"file": BIDEN}, data=mine)["code"] == 20
    assert server.call("POST", vision + "/delete", headers={}, data={"userid": "joe", **mine})["success"]


def _json() -> dict[str, str]:
    return {"Content-Type": "application/json", "x-api-key": TOKEN}
