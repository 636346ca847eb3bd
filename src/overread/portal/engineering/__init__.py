"""The pages of the site's engineers: what arrived, ran, was sent, and how the site is set up."""
