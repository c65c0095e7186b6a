import numpy as np

from probe.reading.cells import cells_per_image, draw_cells


def test_auto_gives_enough_samples():
    # 20,000 at least, and 10 a channel.
    assert cells_per_image("auto", 64, 500) == 40
    assert cells_per_image("auto", 2000, 500) == 40
    assert cells_per_image("auto", 4000, 500) == 80
    assert cells_per_image("auto", 4000, 500, n_sources=1000) == 40
    assert cells_per_image(None, 64, 500) is None
    assert cells_per_image(7, 64, 500) == 7


def test_draws_depend_on_the_image_alone():
    together, shuffled_together = draw_cells(0, [4, 9], 49, 10)
    alone, shuffled_alone = draw_cells(0, [9], 49, 10)
    assert np.array_equal(together[1], alone[0])
    assert np.array_equal(shuffled_together[1], shuffled_alone[0])
    other_seed, _ = draw_cells(1, [9], 49, 10)
    assert not np.array_equal(alone, other_seed)


def test_draws_are_without_replacement():
    cells, shuffled = draw_cells(0, range(50), 30, 20)
    assert all(len(set(row)) == 20 for row in [*cells, *shuffled])
    assert cells.min() >= 0
    assert cells.max() < 30


def test_every_cell_in_order():
    for count in (None, 12, 99):
        cells, shuffled = draw_cells(0, range(3), 12, count)
        assert np.array_equal(cells, np.tile(np.arange(12), (3, 1)))
        assert all(sorted(row) == list(range(12)) for row in shuffled)


def test_each_cell_is_drawn_equally_often():
    cells, shuffled = draw_cells(0, range(4000), 20, 5)
    for drawn in (cells, shuffled):
        counts = np.bincount(drawn.ravel(), minlength=20)
        # 4,000 images draw each cell with probability 1/4: 1,000 ± 27.
        assert abs(counts - 1000).max() < 5 * 27.4


def test_the_positions_of_the_null_know_nothing_of_the_cells():
    for count in (8, None):
        cells, shuffled = draw_cells(0, range(2000), 8, count)
        # Of 16,000 pairs, each is equal with probability 1/8: 2,000 ± 42.
        assert abs((cells == shuffled).sum() - 2000) < 5 * 42
