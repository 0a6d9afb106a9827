"""Routes of this area."""

from api.feedback import handlers, models
from api.route import Route

ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/sightings/{sighting_id}/wrong-person",
        handler=handlers.say_wrong_person,
        tag="sightings",
        needs="alerts.act",
        audit="sighting.wrong_person",
        summary="This is not who the sighting says",
        description=(
            "The sighting loses the name: it becomes the next candidate, where that one reaches its threshold, else a stranger; alerts "
            "that follow from the name are rejected. From then on, at every camera and in every search, who looks like this face rather "
            "than like the subject's references is not named so. Saying it again changes nothing; DELETE takes it back."
        ),
        body=models.WrongPerson,
        answers={200: models.FeedbackAnswer},
        errors=(404, 409, 422),
    ),
    Route(
        method="DELETE",
        path="/v1/sightings/{sighting_id}/wrong-person",
        handler=handlers.undo_wrong_person,
        tag="sightings",
        needs="alerts.act",
        audit="sighting.wrong_person_undo",
        summary="The name was right after all",
        description="The sighting gets its name back, with its alerts as they were, and the face may be named so again.",
        query=models.Undoing,
        answers={200: models.FeedbackAnswer},
        errors=(404, 409),
    ),
    Route(
        method="POST",
        path="/v1/sightings/{sighting_id}/confirm",
        handler=handlers.confirm_sighting,
        tag="sightings",
        needs="alerts.act",
        audit="sighting.confirm",
        summary="This is who the sighting says",
        description="Keeps who said so, and when.",
        body=models.Confirmation,
        answers={200: models.FeedbackAnswer},
        errors=(404, 409),
    ),
    Route(
        method="GET",
        path="/v1/feedback",
        handler=handlers.list_feedback,
        tag="sightings",
        needs="alerts.read",
        audit="feedback.list",
        summary="List what was said of names, newest first",
        query=models.FeedbackQuery,
        answers={200: models.FeedbackPage},
        errors=(422,),
    ),
)
