//! Every operation, with lengths that are odd, zero, unequal or longer than one message.

use dinolab_comm::mpi::Mpi;
use dinolab_comm::{Communicator, Error, Launch, Order};

use crate::Result;

pub fn all(mpi: Mpi, launch: Option<Launch>) -> Result<()> {
    processes(&mpi, launch);
    // Messages of 7 elements put the seams everywhere.
    let mpi = operations(mpi)?.with_message(7);
    let mpi = operations(mpi)?;
    if mpi.rank() == 0 {
        println!("{} processes agree", mpi.size());
    }
    Ok(())
}

fn processes(mpi: &Mpi, launch: Option<Launch>) {
    assert!(mpi.local_rank() < mpi.local_size() && mpi.local_size() <= mpi.size());
    let Some(launch) = launch else {
        return assert_eq!(mpi.size(), 1);
    };
    assert_eq!((launch.rank, launch.size), (mpi.rank(), mpi.size()));
    assert_eq!(
        (launch.local_rank, launch.local_size),
        (mpi.local_rank(), Some(mpi.local_size()))
    );
    assert!(launch.by_mpi());
}

fn operations(mpi: Mpi) -> Result<Mpi> {
    for len in [0, 1, 2, 3, 5, 6, 7, 8, 13, 14, 15, 50] {
        sums(&mpi, len)?;
        sums_along_trees(&mpi, len)?;
    }
    sums_that_go_on(&mpi)?;
    gathered(&mpi)?;
    broadcast(&mpi)?;
    mpi.barrier()?;
    Ok(mpi)
}

/// Sums of whole numbers are exact; those of others have the same bits everywhere.
fn sums(mpi: &Mpi, len: usize) -> Result<()> {
    let (rank, size) = (mpi.rank(), mpi.size());
    let mut values: Vec<f32> = (0..len).map(|i| (rank * len + i) as f32).collect();
    mpi.all_reduce(&mut values)?;
    for (i, value) in values.into_iter().enumerate() {
        assert_eq!(
            value,
            (0..size).map(|rank| (rank * len + i) as f32).sum::<f32>()
        );
    }
    let mut values = summand(rank, len);
    mpi.all_reduce(&mut values)?;
    assert_equal_everywhere(mpi, &values)
}

/// Eight summands, divided among the processes.
fn sums_along_trees(mpi: &Mpi, len: usize) -> Result<()> {
    let (rank, size) = (mpi.rank(), mpi.size());
    if !size.is_power_of_two() {
        let refused = mpi.all_reduce_tree(&mut vec![0.0; len]);
        assert!(matches!(refused, Err(Error::NotAPowerOfTwo(number)) if number == size));
        return Ok(());
    }
    let summands: Vec<_> = (0..8).map(|index| summand(index, len)).collect();
    let own = 8 / size;
    let mut values = tree(&summands[rank * own..][..own]);
    mpi.all_reduce_tree(&mut values)?;
    assert_eq!(bytes(&values), bytes(&tree(&summands)));
    assert_equal_everywhere(mpi, &values)
}

/// Sums under way while others begin and other operations follow.
fn sums_that_go_on(mpi: &Mpi) -> Result<()> {
    let (rank, size) = (mpi.rank(), mpi.size());
    let whole = |rank: usize, len: usize| -> Vec<f32> {
        (0..len).map(|i| (rank * len + i) as f32).collect()
    };
    let expected = |len: usize| -> Vec<f32> {
        let mut sum = vec![0.0; len];
        for rank in 0..size {
            sum.iter_mut()
                .zip(whole(rank, len))
                .for_each(|(sum, value)| *sum += value);
        }
        sum
    };
    let lens = [50, 0, 13, 1, 7];
    let begin = |len| mpi.begin_sum(whole(rank, len), Order::Any);
    let begun = lens.map(begin);
    // Waits for them.
    gathered(mpi)?;
    let mut blocking = whole(rank, 20);
    let last = begin(9)?;
    mpi.all_reduce(&mut blocking)?;
    assert_eq!(blocking, expected(20));
    for (sum, len) in begun.into_iter().zip(lens) {
        assert_eq!(sum?.wait()?, expected(len));
    }
    assert_eq!(last.wait()?, expected(9));
    // One that nobody waits for.
    drop(begin(30)?);

    let own = summand(rank, 50);
    let tree = mpi.begin_sum(own.clone(), Order::Tree);
    if !size.is_power_of_two() {
        assert!(matches!(tree, Err(Error::NotAPowerOfTwo(number)) if number == size));
        return Ok(());
    }
    let mut blocking = own;
    mpi.all_reduce_tree(&mut blocking)?;
    assert_eq!(bytes(&tree?.wait()?), bytes(&blocking));
    Ok(())
}

fn gathered(mpi: &Mpi) -> Result<()> {
    let bytes = |rank: usize, longest: usize| {
        vec![rank as u8 + 1; if rank == 1 { 0 } else { rank * 3 + longest }]
    };
    for longest in [0, 1, 6, 7, 100] {
        let all = mpi.all_gather(&bytes(mpi.rank(), longest))?;
        let expected: Vec<_> = (0..mpi.size()).map(|rank| bytes(rank, longest)).collect();
        assert_eq!(all, expected);
    }
    assert_eq!(mpi.all_gather(&[])?, vec![Vec::new(); mpi.size()]);
    Ok(())
}

fn broadcast(mpi: &Mpi) -> Result<()> {
    for len in [0, 1, 7, 20] {
        let sent: Vec<u8> = (0..len).collect();
        // Shorter and longer than what arrives.
        let mut bytes = if mpi.rank() == 0 {
            sent.clone()
        } else {
            vec![255; mpi.rank() * 5]
        };
        mpi.broadcast(&mut bytes)?;
        assert_eq!(bytes, sent);
    }
    Ok(())
}

fn assert_equal_everywhere(mpi: &Mpi, values: &[f32]) -> Result<()> {
    let all = mpi.all_gather(&bytes(values))?;
    assert!(
        all.iter().all(|other| *other == all[0]),
        "{} values differ",
        values.len()
    );
    Ok(())
}

/// Values whose sum depends on the order of additions.
fn summand(index: usize, len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((index * 31 + i * 7 + 1) as f32).sin() * 10_f32.powi((index % 5) as i32))
        .collect()
}

fn tree(summands: &[Vec<f32>]) -> Vec<f32> {
    if let [one] = summands {
        return one.clone();
    }
    let (lower, upper) = summands.split_at(summands.len() / 2);
    tree(lower)
        .iter()
        .zip(tree(upper))
        .map(|(a, b)| a + b)
        .collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect()
}
