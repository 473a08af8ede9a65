NAME = 'a package of the collection'
