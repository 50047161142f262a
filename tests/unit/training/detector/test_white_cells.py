"""A field's own white cells, copied smaller or made plain."""

from __future__ import annotations

import torch
from scipy import ndimage

from cellcount.training.detector.white_cells import (
    with_heap,
    with_pale_surroundings,
    with_plain_cells,
    with_small_copy,
)

RED, WHITE = 1, 2


def field() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A white cell as a dark disc of 60 px at (50, 50), and two red cells."""
    pixels = torch.full((3, 160, 240), 230, dtype=torch.uint8)
    y, x = torch.meshgrid(torch.arange(160), torch.arange(240), indexing="ij")
    pixels[:, (y - 50) ** 2 + (x - 50) ** 2 <= 30**2] = 60
    boxes = torch.tensor([[20.0, 20, 80, 80], [120, 90, 160, 130], [185, 20, 225, 60]])
    return pixels, boxes, torch.tensor([WHITE, RED, RED])


def dark_discs(pixels: torch.Tensor) -> list[tuple[int, int, int, int]]:
    spots, _ = ndimage.label(pixels[0].numpy() < 145)
    return [(s[1].start, s[0].start, s[1].stop, s[0].stop) for s in ndimage.find_objects(spots)]


def test_the_copy_lies_where_its_box_says_and_is_smaller() -> None:
    sizes = []
    for seed in range(30):
        torch.manual_seed(seed)
        pixels, boxes, labels = with_small_copy(*field(), WHITE)
        assert labels[-1] == WHITE
        assert len(boxes) == len(labels)
        box = boxes[-1]
        sizes.append(float(box[2] - box[0]))
        near = [
            d
            for d in dark_discs(pixels)
            if (torch.tensor(d) - box).abs().max() <= 0.06 * sizes[-1] + 2
        ]
        assert near, f"no dark disc at {box.tolist()}"
    assert 26 <= min(sizes) < 34
    assert 46 < max(sizes) <= 54


def test_the_first_cell_is_never_covered_and_others_go_when_they_are() -> None:
    gone = 0
    for seed in range(60):
        torch.manual_seed(seed)
        pixels, boxes, _ = with_small_copy(*field(), WHITE)
        assert boxes[0].tolist() == [20, 20, 80, 80]
        assert (pixels[0, 45:55, 45:55] == 60).all()
        gone += 4 - len(boxes)
        for box in boxes[1:-1]:
            shared = torch.minimum(box[2:], boxes[-1][2:]) - torch.maximum(box[:2], boxes[-1][:2])
            assert shared.clamp(min=0).prod() < 0.5 * 40 * 40
    assert gone > 0


def test_nothing_happens_without_a_whole_white_cell_or_room_for_another() -> None:
    pixels, boxes, labels = field()
    torch.manual_seed(0)
    same = with_small_copy(pixels, boxes, torch.tensor([RED, RED, RED]), WHITE)
    assert same[0] is pixels
    cut = boxes.clone()
    cut[0, 0] = 0.0
    assert with_small_copy(pixels, cut, labels, WHITE)[0] is pixels
    crowded = torch.tensor([[1.0, 1, 239, 159]])
    assert with_small_copy(pixels, crowded, torch.tensor([WHITE]), WHITE)[0] is pixels


def test_the_original_is_left_alone() -> None:
    pixels, boxes, labels = field()
    before = pixels.clone()
    torch.manual_seed(3)
    with_small_copy(pixels, boxes, labels, WHITE)
    assert torch.equal(pixels, before)


def test_a_plain_cell_keeps_its_place_and_loses_texture_and_contrast() -> None:
    pixels, boxes, labels = field()
    pixels[:, 35:65:4, 35:65] = 140  # stripes
    before = pixels[0, 38:62, 38:62].float()
    tones = []
    for seed in range(20):
        torch.manual_seed(seed)
        plain = with_plain_cells(pixels, boxes, labels, WHITE)
        after = plain[0, 38:62, 38:62].float()
        assert after.std() < 0.8 * before.std()
        tones.append(float((230 - after.mean()) / (230 - before.mean())))
        outside = torch.ones(160, 240, dtype=torch.bool)
        outside[14:86, 14:86] = False  # a soft rim
        assert torch.equal(plain[:, outside], pixels[:, outside])
    assert 0.35 < min(tones) < 0.55
    assert 0.85 < max(tones) < 1.08


def test_a_cut_cell_is_left_as_it_is() -> None:
    pixels, boxes, labels = field()
    cut = boxes - torch.tensor([21.0, 0, 21, 0])
    assert with_plain_cells(pixels, cut, labels, WHITE) is pixels


def test_a_heap_lies_where_its_boxes_say_and_is_darker_where_cells_overlap() -> None:
    overlapping = 0
    for seed in range(20):
        torch.manual_seed(seed)
        field_with_red = red_field()
        pixels, boxes, labels = with_heap(*field_with_red, RED, WHITE)
        assert len(boxes) == len(labels)
        assert (labels[4:] == RED).all()
        changed = (pixels != field_with_red[0]).any(0)
        inside = torch.zeros_like(changed)
        for x0, y0, x1, y1 in boxes[4:].long().tolist():
            inside[y0:y1, x0:x1] = True
        assert not (changed & ~inside).any()
        overlapping += int((pixels[0] < 100).sum() > (field_with_red[0][0] < 100).sum())
    assert overlapping > 5


def test_a_heap_never_covers_a_white_cell_and_needs_three_red_ones() -> None:
    for seed in range(40):
        torch.manual_seed(seed)
        pixels, boxes, _ = with_heap(*red_field(), RED, WHITE)
        assert (pixels[0, 45:55, 45:55] == 60).all()
        assert boxes[0].tolist() == [20, 20, 80, 80]
    pixels, boxes, labels = field()
    same = with_heap(pixels, boxes, labels, RED, WHITE)
    assert torch.equal(same[0], pixels)
    assert torch.equal(same[1], boxes)


def red_field() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The field with red cells as discs of 40 px, and a third one."""
    pixels, boxes, _ = field()
    boxes = torch.cat([boxes, torch.tensor([[100.0, 10, 140, 50]])])
    y, x = torch.meshgrid(torch.arange(160), torch.arange(240), indexing="ij")
    for x0, y0, _, _ in boxes[1:].tolist():
        pixels[:, (y - y0 - 20) ** 2 + (x - x0 - 20) ** 2 <= 20**2] = 150
    return pixels, boxes, torch.tensor([WHITE, RED, RED, RED])


def test_all_but_white_cells_become_paler_and_boxes_tell_which_these_are() -> None:
    pixels, boxes, labels = field()
    pixels[:, 100:120, 130:150] = 120
    for seed in range(10):
        torch.manual_seed(seed)
        paler = with_pale_surroundings(pixels, boxes, labels, WHITE)
        assert (paler[:, 40:60, 40:60] == 60).all()
        assert 120 < int(paler[0, 110, 140]) <= 230 - 0.3 * 110 + 1
        assert int(paler[0, 0, 239]) == 230
    torch.manual_seed(0)
    assert (with_pale_surroundings(pixels, boxes[1:], labels[1:], WHITE)[:, 50, 50] > 60).all()
