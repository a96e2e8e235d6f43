"""The tasks that a recipe can name, one line each. To add a task, add a line."""

from uniperceiver.tasks.task import Task

# fmt: off
_TASKS = (
    Task(name="image_classification", inputs=("image",), candidates="labels", temperature="img_cls"),
    Task(name="video_classification", inputs=("video",), candidates="labels", temperature="video_cls"),
    Task(name="text_classification", inputs=("text",), candidates="labels", read_at="masked", temperature="text_mlm", template="{text} it is {answer} ."),
    Task(name="visual_question_answering", inputs=("image", "text"), candidates="labels", read_at="masked", temperature="downstream", template="{text} {answer}"),
    Task(name="image_tagging", inputs=("image",), candidates="tags", temperature="downstream"),
    Task(name="text_tagging", inputs=("text",), candidates="tags", read_at="masked", temperature="downstream", template="{text} it is {answer} ."),
    Task(name="masked_language_modelling", inputs=("text",), candidates="vocabulary", read_at="masked", temperature="text_mlm"),
    Task(name="image_captioning", inputs=("image", "text"), candidates="vocabulary", read_at="next", temperature="caption"),
    Task(name="video_captioning", inputs=("video", "text"), candidates="vocabulary", read_at="next", temperature="caption"),
    Task(name="object_detection", inputs=("image",), candidates="labels", read_at="proposals", temperature="img_cls"),
    Task(name="instance_segmentation", inputs=("image",), candidates="labels", read_at="proposals", masks=True, temperature="img_cls"),
    Task(name="audio_classification", inputs=("audio",), candidates="labels", temperature="audio_cls"),
    Task(name="audiovisual_classification", inputs=("video", "audio"), candidates="labels", temperature="video_cls"),
    Task(name="audio_captioning", inputs=("audio", "text"), candidates="vocabulary", read_at="next", temperature="caption"),
    Task(name="image_text_retrieval", inputs=("image",), candidates="in_batch", temperature="retrieve"),
    Task(name="video_text_retrieval", inputs=("video",), candidates="in_batch", temperature="retrieve"),
    Task(name="audio_text_retrieval", inputs=("audio",), candidates="in_batch", temperature="audio_retrieve"),
    Task(name="video_audio_retrieval", inputs=("video",), candidates="in_batch", target="audio", temperature="video_audio_retrieve"),
)
# fmt: on

CATALOGUE = {task.name: task for task in _TASKS}
