//! Which sets there are, where they come from, and what they have to be.

/// What becomes of an archive's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// They stay as they are; a folder that holds everything else is dropped.
    Tree,
    /// They stay as they are, in the archive's own folders.
    WholeTree,
    /// CIFAR-10's batches of raw pixels, which become `train/CLASS/NNNNN.png` and `test/CLASS/NNNNN.png`.
    Cifar10,
}

/// One public set of images, packed into one archive.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What it is called.
    pub name: &'static str,
    /// In words.
    pub about: &'static str,
    /// Address of the archive; its last part names the archive's kind.
    pub url: &'static str,
    /// Length of the archive, where it is known.
    pub bytes: Option<u64>,
    /// SHA-256 of the archive in lowercase hexadecimal digits, where it is known.
    pub sha256: Option<&'static str>,
    /// What becomes of its files.
    pub layout: Layout,
    /// Folder of the images below the folder that is made; empty for that folder itself.
    pub images: &'static str,
}

/// The sets of `dinolab data fetch`.
pub const DATASETS: &[Dataset] = &[
    Dataset {
        name: "voc2012",
        about: "Pascal VOC 2012, 17125 photographs, 2913 of them with masks",
        url: "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        bytes: Some(1_999_639_040),
        sha256: Some("e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb"),
        layout: Layout::WholeTree,
        images: "VOCdevkit/VOC2012",
    },
    Dataset {
        name: "imagenette160",
        about: "Imagenette, ten classes of ImageNet, shorter side 160",
        url: "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
        bytes: Some(99_003_388),
        sha256: Some("64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5"),
        layout: Layout::Tree,
        images: "train",
    },
    Dataset {
        name: "imagenette320",
        about: "Imagenette, ten classes of ImageNet, shorter side 320",
        url: "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz",
        bytes: Some(341_663_724),
        sha256: Some("569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c"),
        layout: Layout::Tree,
        images: "train",
    },
    Dataset {
        name: "cifar10",
        about: "CIFAR-10, ten classes, 60000 images of 32x32, unpacked to PNG",
        url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        bytes: Some(170_052_171),
        sha256: Some("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),
        layout: Layout::Cifar10,
        images: "train",
    },
    Dataset {
        name: "davis2016",
        about: "DAVIS 2016, 50 videos with the mask of an object in every frame",
        url: "https://graphics.ethz.ch/Downloads/Data/Davis/DAVIS-data.zip",
        bytes: None,
        sha256: None,
        layout: Layout::Tree,
        images: "",
    },
];

/// The set of a name.
///
/// # Errors
/// Another name, with those that there are.
pub fn by_name(name: &str) -> Result<&'static Dataset, String> {
    DATASETS
        .iter()
        .find(|dataset| dataset.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = DATASETS.iter().map(|dataset| dataset.name).collect();
            format!("no such dataset; available: {}", names.join(", "))
        })
}

impl Dataset {
    /// Name of the archive's file.
    pub fn archive(&self) -> &'static str {
        self.url.rsplit('/').next().unwrap_or(self.name)
    }

    /// The line of `--list`.
    pub fn line(&self) -> String {
        let size = self.bytes.map_or_else(
            || "size not known".to_owned(),
            |bytes| format!("{:.0} MB", bytes as f64 / 1e6),
        );
        let sum = self.sha256.map_or_else(
            || "SHA-256 not known, so not verified".to_owned(),
            |sum| format!("SHA-256 {sum}"),
        );
        format!(
            "{:14} {}\n{:14} {size}, {sum}\n{:14} {}",
            self.name, self.about, "", "", self.url
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed() {
        for dataset in DATASETS {
            assert_eq!(by_name(dataset.name).unwrap().url, dataset.url);
            if let Some(sum) = dataset.sha256 {
                assert!(sum.len() == 64, "{}", dataset.name);
                assert!(sum.bytes().all(|b| b"0123456789abcdef".contains(&b)));
            }
            assert_eq!(dataset.bytes.is_some(), dataset.sha256.is_some());
        }
        assert!(by_name("cifar").unwrap_err().contains("cifar10"));
    }
}
