"""Small DICOM whole slides, written as scanners write them: tiles of JPEG, a file per level."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


def write_dicom_slide(
    folder: Path, pixels: NDArray[np.uint8], um_per_px: float, tile_px: int = 128
) -> list[Path]:
    """A slide of two levels, ``level-1.dcm`` the smaller one and ``level-2.dcm``.

    Args:
        folder: of both files.
        pixels: (h, w, 3) of the larger level.
        um_per_px: of the larger level.
        tile_px: side of the tiles.
    """
    from pydicom.uid import generate_uid

    uids = tuple(generate_uid(entropy_srcs=[str(n)]) for n in range(3))
    levels = [(pixels[::2, ::2].copy(), 2 * um_per_px), (pixels, um_per_px)]
    paths = [folder / f"level-{number}.dcm" for number in (1, 2)]
    for path, (level, scale), number in zip(paths, levels, (2, 1), strict=True):
        _write(path, level, scale, tile_px, number, uids)
    return paths


def _write(
    path: Path,
    pixels: NDArray[np.uint8],
    um_per_px: float,
    tile_px: int,
    number: int,
    uids: tuple[Any, ...],
) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, JPEGBaseline8Bit, generate_uid

    height, width = pixels.shape[:2]
    frames = _tiles(pixels, tile_px)
    slide = Dataset()
    slide.file_meta = FileMetaDataset()
    slide.file_meta.MediaStorageSOPClassUID = slide.SOPClassUID = UID(_WHOLE_SLIDE)
    own = generate_uid(entropy_srcs=[str(path.name)])
    slide.file_meta.MediaStorageSOPInstanceUID = slide.SOPInstanceUID = own
    slide.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    slide.StudyInstanceUID, slide.SeriesInstanceUID, slide.FrameOfReferenceUID = uids
    slide.Modality, slide.InstanceNumber = "SM", number
    first, last = ("ORIGINAL", "NONE") if number == 1 else ("DERIVED", "RESAMPLED")
    slide.ImageType = [first, "PRIMARY", "VOLUME", last]
    slide.SamplesPerPixel, slide.PhotometricInterpretation = 3, "YBR_FULL_422"
    slide.PlanarConfiguration = slide.PixelRepresentation = 0
    slide.Rows = slide.Columns = tile_px
    slide.BitsAllocated = slide.BitsStored = 8
    slide.HighBit = 7
    slide.NumberOfFrames, slide.DimensionOrganizationType = len(frames), "TILED_FULL"
    slide.TotalPixelMatrixColumns, slide.TotalPixelMatrixRows = width, height
    slide.TotalPixelMatrixFocalPlanes = slide.NumberOfOpticalPaths = 1
    measures, shared, path_of_light = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [um_per_px / 1000] * 2, 0.001
    shared.PixelMeasuresSequence = [measures]
    slide.SharedFunctionalGroupsSequence = [shared]
    path_of_light.OpticalPathIdentifier = "1"
    slide.OpticalPathSequence = [path_of_light]
    slide.LossyImageCompression = "01"
    slide.PixelData = encapsulate(frames)
    slide["PixelData"].is_undefined_length = True
    slide.save_as(path, enforce_file_format=True)


def _tiles(pixels: NDArray[np.uint8], tile_px: int) -> list[bytes]:
    tiles = []
    for y in range(0, pixels.shape[0], tile_px):
        for x in range(0, pixels.shape[1], tile_px):
            tile = np.full((tile_px, tile_px, 3), 255, np.uint8)
            part = pixels[y : y + tile_px, x : x + tile_px]
            tile[: part.shape[0], : part.shape[1]] = part
            file = io.BytesIO()
            Image.fromarray(tile).save(file, "JPEG", quality=95, subsampling=0)
            tiles.append(file.getvalue())
    return tiles
