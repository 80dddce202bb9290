"""What each data set is, where its publisher keeps it, and how its files are named."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class DataFile:
    """One file as the publisher offers it.

    Attributes:
        name: file name; for a downloaded archive, the archive's.
        md5: the publisher's checksum.
    """

    name: str
    md5: str


@dataclass(frozen=True)
class Source:
    """A data set that :func:`neuropil.data.load` knows.

    Attributes:
        name: its name here.
        title: its name elsewhere.
        what: what it is, in one line.
        layout: how its files are laid out: ``builtin`` (comes with scikit-learn), ``idx``, ``cifar``.
        image_shape: ``(channels, height, width)``.
        classes: name of each class; the number of classes is their number.
        n_train: training images.
        n_test: test images.
        url: folder that its files are downloaded from.
        files: the files, as published.
        citation: whom to cite.
    """

    name: str
    title: str
    what: str
    layout: Literal["builtin", "idx", "cifar"]
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    n_train: int
    n_test: int
    url: str
    files: tuple[DataFile, ...]
    citation: str

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)


_NUMERALS = tuple("0123456789")
_CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# the fine classes of CIFAR-100, in the order of their labels
_HUNDRED_THINGS = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
    lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
    shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_IDX_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _idx_files(*checksums: str) -> tuple[DataFile, ...]:
    return tuple(DataFile(name, md5) for name, md5 in zip(_IDX_NAMES, checksums, strict=True))


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="digits",
            title="Optical recognition of handwritten digits",
            what="1,797 grey 8 × 8 images of digits; comes with scikit-learn, nothing to download",
            layout="builtin",
            image_shape=(1, 8, 8),
            classes=_NUMERALS,
            n_train=1078,
            n_test=719,
            url="https://archive.ics.uci.edu/dataset/80",
            files=(),
            citation="E. Alpaydin and C. Kaynak, UCI Machine Learning Repository (1998)",
        ),
        Source(
            name="mnist",
            title="MNIST",
            what="70,000 grey 28 × 28 images of handwritten digits",
            layout="idx",
            image_shape=(1, 28, 28),
            classes=_NUMERALS,
            n_train=60_000,
            n_test=10_000,
            url="https://ossci-datasets.s3.amazonaws.com/mnist/",
            files=_idx_files(
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
            citation="Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits (1998)",
        ),
        Source(
            name="fashion-mnist",
            title="Fashion-MNIST",
            what="70,000 grey 28 × 28 images of clothes",
            layout="idx",
            image_shape=(1, 28, 28),
            classes=_CLOTHES,
            n_train=60_000,
            n_test=10_000,
            url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            files=_idx_files(
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
            citation="H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv 1708.07747 (2017)",
        ),
        Source(
            name="cifar-10",
            title="CIFAR-10",
            what="60,000 colour 32 × 32 images of ten kinds of things",
            layout="cifar",
            image_shape=(3, 32, 32),
            classes=_THINGS,
            n_train=50_000,
            n_test=10_000,
            url="https://www.cs.toronto.edu/~kriz/",
            files=(DataFile("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),),
            citation="A. Krizhevsky, Learning multiple layers of features from tiny images (2009)",
        ),
        Source(
            name="cifar-100",
            title="CIFAR-100",
            what="60,000 colour 32 × 32 images of a hundred kinds of things (fine labels)",
            layout="cifar",
            image_shape=(3, 32, 32),
            classes=tuple(_HUNDRED_THINGS.split()),
            n_train=50_000,
            n_test=10_000,
            url="https://www.cs.toronto.edu/~kriz/",
            files=(DataFile("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),),
            citation="A. Krizhevsky, Learning multiple layers of features from tiny images (2009)",
        ),
    )
}
