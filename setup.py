"""What pmitogen is called, needs and installs. The tools' settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_namespace_packages, find_packages, setup

HERE = Path(__file__).parent

setup(
    name="pmitogen",
    version="0.1.0",
    description="Ansible without an ssh program: Paramiko logs in, Mitogen does the work",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="GPL-3.0-or-later",
    package_dir={"": "."},  # so that an editable install is a plain path, which costs no interpreter an import hook
    packages=[
        *find_packages(include=["pmitogen", "pmitogen.*"]),
        # Ansible looks for collections on Python's path, so "pmitogen.core.ssh" works wherever this is installed.
        *find_namespace_packages(include=["ansible_collections.pmitogen.*"]),
    ],
    package_data={
        "pmitogen": ["py.typed"],
        "ansible_collections.pmitogen.core": ["galaxy.yml", "README.md", "meta/runtime.yml"],
    },
    zip_safe=False,  # Ansible loads the connection plugin by its path
    python_requires=">=3.10",
    install_requires=["paramiko>=4,<6", "mitogen>=0.3.50,<0.4"],
    extras_require={
        "test": [
            "pytest>=8,<10",
            "pytest-timeout>=2.3,<3",
            "mock-ssh-server>=0.9,<1",
            "hypothesis>=6.100,<7",
            "mypy>=1.15,<3",
            "ruff>=0.9,<1",
            'atheris>=2.3; sys_platform == "linux" and platform_machine == "x86_64"',
            "types-paramiko>=4",
        ],
    },
    entry_points={"console_scripts": ["pmitogen = pmitogen.cli:main"]},
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: System :: Systems Administration",
    ],
)
