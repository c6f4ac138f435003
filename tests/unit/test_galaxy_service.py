from galaxy_service import Role


def test_a_role_is_told_from_its_text_and_written_as_it():
    assert Role("celery-beat") is Role.CELERY_BEAT
    assert Role.WEB == "web"
