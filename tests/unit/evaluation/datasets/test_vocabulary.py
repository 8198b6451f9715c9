"""Names of classes: official ones against other packages, and against lists of their publishers by hash."""

import hashlib

import pytest
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

from clippy_core.evaluation.dense.vocabulary import ade20k, cityscapes, coco, context, voc
from clippy_core.prompts import Label, parse_labels

# The first 16 digits of the SHA-256 of the names, one a line. When they were written down, each list was the same in
# the data set's own repository; those of VOC, COCO's things, ADE20K, Context and Cityscapes' 19 in a second one too.
LISTS = {
    "voc": (voc.CLASSES, 20, "7d877f185c807bc5"),
    "context": (context.CLASSES, 59, "cd808465f06a1616"),
    "coco things": (coco.THINGS.values(), 80, "d7654b2610157284"),
    "coco stuff": (coco.STUFF.values(), 91, "e3ae06a4a76feec9"),
    "coco panoptic stuff": (coco.PANOPTIC_STUFF.values(), 53, "7079b97fbe6e1463"),
    "ade20k": (ade20k.CLASSES, 150, "f9dbd8a75a0722c9"),
    "cityscapes": (cityscapes.LABELS.values(), 27, "5044e68c11f6eed2"),
}
THINGS = tuple(map(coco.name_in_prompt, coco.THINGS.values()))
STUFF = tuple(map(coco.name_in_prompt, coco.STUFF.values()))
PANOPTIC_STUFF = tuple(map(coco.name_in_prompt, coco.PANOPTIC_STUFF.values()))


@pytest.mark.parametrize("name", LISTS)
def test_official_lists_are_complete_and_in_order(name):
    classes, count, digest = LISTS[name]
    assert len(classes) == len(set(classes)) == count
    assert hashlib.sha256("\n".join(classes).encode()).hexdigest()[:16] == digest


def test_voc_and_coco_agree_with_torchvision():
    assert DeepLabV3_ResNet50_Weights.DEFAULT.meta["categories"] == ["__background__", *voc.CLASSES]
    categories = FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    assert {number: name for number, name in enumerate(categories) if name not in ("__background__", "N/A")} == (
        coco.THINGS
    )


def test_context_is_in_the_order_of_its_numbers_and_of_the_alphabet():
    assert list(context.NUMBERS) == sorted(context.NUMBERS)
    assert list(context.CLASSES) == sorted(context.CLASSES)
    # The twenty of VOC are all among them, the table under a shorter name.
    assert set(voc.CLASSES) - set(context.CLASSES) == {"diningtable"}


def test_ids_of_stuff_are_those_of_the_files():
    assert (min(coco.STUFF), coco.STUFF[92], max(coco.STUFF), coco.STUFF[182]) == (92, "banner", 182, "wood")
    assert (coco.PANOPTIC_STUFF[187], coco.PANOPTIC_STUFF[200]) == ("sky-other-merged", "rug-merged")
    assert max(coco.PANOPTIC_STUFF) == 200


def test_the_nineteen_of_cityscapes_by_train_id():
    assert [cityscapes.LABELS[number] for number in cityscapes.EVALUATED] == [
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
        *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ]
    assert cityscapes.IDS[27] == tuple(range(7, 34))


@pytest.mark.parametrize(
    ("official", "expected"),
    [
        ("person", "person"),
        ("traffic light", "traffic light"),
        ("wall-other", "wall"),
        ("wall-brick", "brick wall"),
        ("floor-wood", "wooden floor"),
        ("mirror-stuff", "mirror"),
        ("window-blind", "window blind"),
        ("playingfield", "playing field"),
        ("sky-other-merged", "sky"),
        ("tree-merged", "tree"),
    ],
)
def test_names_of_coco_in_prompts(official, expected):
    assert coco.name_in_prompt(official) == expected


@pytest.mark.parametrize(
    ("names", "synonyms", "background"),
    [
        (voc.NAMES, voc.SYNONYMS, voc.BACKGROUND),
        (context.NAMES, context.SYNONYMS, context.BACKGROUND),
        (THINGS, coco.SYNONYMS, coco.BACKGROUND),
        ((*THINGS, *STUFF), coco.SYNONYMS, ()),
        ((*THINGS, *PANOPTIC_STUFF), coco.SYNONYMS, ()),
        (ade20k.NAMES, ade20k.SYNONYMS, ()),
        (cityscapes.names(27), cityscapes.SYNONYMS, ()),
    ],
    ids=["voc", "context", "coco-object", "coco-stuff", "coco-panoptic", "ade20k", "cityscapes"],
)
def test_no_word_means_two_classes(names, synonyms, background):
    assert set(synonyms) <= set(names)
    # A label set with a word twice would be refused here.
    labels = parse_labels([*(Label(name, (name, *synonyms.get(name, ()))) for name in names), *background])
    assert len(labels) == len(names) + len(background)
    assert not any(character in name for name in names for character in "-_|,")
